package com.facebook.soloader.nativeloader;

import java.util.HashSet;
import java.util.Set;

/** Opens Android's libraries, with what they take from bionic before glibc's: see bionic.c. */
public class NativeLoader {
    private static final String FOLDER = System.getProperty("android.libraries");

    private static final Set<String> OPENED = new HashSet<>();

    static {
        System.load(FOLDER + "/libc.so");
        loadLibrary("fbjni"); // what others need announces itself before them
    }

    public static boolean isInitialized() {
        return true;
    }

    public static void init(NativeLoaderDelegate delegate) {}

    public static synchronized boolean loadLibrary(String name) {
        if (!OPENED.add(name)) {
            return false; // as it announces itself, too: classes that it names ask for it again
        }
        String failure = open(FOLDER + "/lib" + name + ".so");
        if (failure != null) {
            throw new UnsatisfiedLinkError(failure);
        }
        return true;
    }

    private static native String open(String path);
}
