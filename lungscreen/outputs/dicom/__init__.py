"""Finished study ─► DICOM objects that stand beside the CT in a PACS.

source       what is taken over from the series     identity, predecessor   what the objects are called
places       millimetres ─► the series' own pixels  codes, statements       what is said in them
key_images, encapsulated, measurement_report, segmentation    the output `dicom`
key_objects, marks, chest_cad                                 outputs by option
output       all of them behind the outputs' interface
"""
