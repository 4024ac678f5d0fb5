"""Training data as TFRecords: schema.py declares the records, writer.py writes and dataset.py reads them."""
