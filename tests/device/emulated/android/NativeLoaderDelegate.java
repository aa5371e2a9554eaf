package com.facebook.soloader.nativeloader;

/** Named by what initialises the loader, and of no use here. */
public interface NativeLoaderDelegate {}
