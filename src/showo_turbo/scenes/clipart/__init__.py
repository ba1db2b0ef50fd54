"""The world of clip-art: things that people recognise."""
