"""What differs between images, video and text: one value for each. Free of torch."""
