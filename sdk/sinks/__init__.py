"""What results are drawn into: annotated video and plots."""
