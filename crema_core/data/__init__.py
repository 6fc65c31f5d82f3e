"""The data room: data files, records, batches and media readers."""
