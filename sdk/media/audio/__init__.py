"""Sound beside the pictures: decoding, looking ahead, microphones."""
