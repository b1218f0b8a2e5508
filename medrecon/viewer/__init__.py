"""The napari plugin: its readers, writer, sample and widget. No mathematics and no file formats of its own."""
