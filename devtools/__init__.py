"""Development tools, run by `dev.py` inside `.venv`: a real ComfyUI to test against, a browser, the test suites."""
