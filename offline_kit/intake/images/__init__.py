"""What is inside an image: the files of its layers that tell which packages it holds, read while the layers pass by."""
