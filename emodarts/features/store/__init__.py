"""The feature store: a folder of Arrow shards and an index, complete when `store.json` is there.

`plan` says what is to be extracted and under which key, `building` extracts it (`extraction` one shard, `workers` in
several processes), `files` has the format, `store` opens it, `joined` reads several stores as one, `inventory` lists
and deletes.
"""
