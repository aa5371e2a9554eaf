"""What runs a bundle: the manifest's types, the bundle, and one engine a runtime."""
