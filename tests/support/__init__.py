"""What the tests share: scripted models, gates, random skeletons."""
