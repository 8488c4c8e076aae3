"""Reading a bundle or a kit, in whatever form it lies there."""
