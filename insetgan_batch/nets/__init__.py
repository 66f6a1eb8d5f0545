"""The pretrained networks: generators, detector, perceptual features."""
