"""RunPod's S3 API over the folders of the network volumes."""
