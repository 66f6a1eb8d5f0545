"""What the method InsetGAN adds to the command line."""
