"""`spinect import`: foreign collections into a dataset folder, one module per layout.

`gold_atlas` needs the extra `dicom`; the others read what `spinect.io` reads.
"""
