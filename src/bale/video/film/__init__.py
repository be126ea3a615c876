"""Films and folders of images, in and out, and what a codec knows of motion."""
