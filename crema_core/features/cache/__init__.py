"""Features of frozen encoders in a folder, shared by runs, processes and machines.

```
DIR/
  crema-cache.json                       marks the folder; nothing is ever written into or deleted from another one
  files/<writer>.jsonl                   digests of media files already read once, see `keys`
  features/<modality>-<identity>/           one folder per encoder: what it is in identity.json, see `keys`
    <time>-<writer>.safetensors          a shard: features of many files with their checksums, see `store`
    <time>-<writer>.safetensors.damaged  a shard that could not be read, set aside
```

A shard is written beside its place, flushed to disk and renamed, and never changed afterwards; every writer has shards
of its own. So there are no locks, a killed writer leaves nothing half-written behind that a reader would believe, and
the index is what a look into the folder finds. `crema cache` shows, checks and evicts.
"""
