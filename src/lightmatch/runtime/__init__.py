"""What every part runs on: threads and devices, files that are whole or absent, and finished work kept on disk."""
