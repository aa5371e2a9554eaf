package com.facebook.soloader.nativeloader;

/** Made by what initialises the loader, and of no use here. */
public class SystemDelegate implements NativeLoaderDelegate {}
