"""The data room: manifests, records, batches and media readers."""
