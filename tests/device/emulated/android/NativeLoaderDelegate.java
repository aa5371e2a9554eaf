package com.facebook.soloader.nativeloader;

/** Named by what initializes the loader, and of no use here. */
public interface NativeLoaderDelegate {}
