package com.facebook.jni;

/** What libfbjni.so looks for by name: a Java object's native half, and its like. */
public class HybridData {
    /** Frees the native half, when told to: this process does not live long. */
    public static class Destructor {
        private volatile long mNativePointer;

        void destruct() {
            deleteNative(mNativePointer);
            mNativePointer = 0;
        }

        static native void deleteNative(long pointer);
    }

    private final Destructor mDestructor = new Destructor();

    public synchronized void resetNative() {
        mDestructor.destruct();
    }

    public boolean isValid() {
        return mDestructor.mNativePointer != 0;
    }
}

class HybridClassBase extends HybridData {}

class NativeRunnable implements Runnable {
    private final HybridData mHybridData;

    private NativeRunnable(HybridData hybridData) {
        mHybridData = hybridData;
    }

    @Override
    public native void run();
}

class ThreadScopeSupport {
    private static void runStdFunction(long pointer) {
        runStdFunctionImpl(pointer);
    }

    private static native void runStdFunctionImpl(long pointer);
}

class CppException extends RuntimeException {
    public CppException(String message) {
        super(message);
    }
}

class UnknownCppException extends CppException {
    public UnknownCppException(String message) {
        super(message);
    }

    public UnknownCppException() {
        super("unknown");
    }
}

class CppSystemErrorException extends CppException {
    public CppSystemErrorException(String message, int code) {
        super(message + " (error " + code + ")");
    }
}
