"""How a folder says what its pictures show, one way a file: sub-folders, captions, or a table."""
