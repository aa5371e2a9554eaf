package com.facebook.soloader.nativeloader;

/** Made by what initializes the loader, and of no use here. */
public class SystemDelegate implements NativeLoaderDelegate {}
