"""The slow simulator: plain Python, token by token, written from the description of the engines alone.

It shares no code with the packages it judges, and the compiled kernel must equal it to the last bit. One noun per file:

    config.py    ReferenceConfig, everything a run needs besides requests and tables
    tables.py    ReferenceTables, the seconds of one iteration
    requests.py  Request, one request and its state
    blocks.py    BlockPool, the KV blocks of a replica and their free queue
    batch.py     Batch and BatchMember, what one call of schedule() chose
    vllm_v1.py   VllmV1, the batch policy
    engine.py    SynchronousEngine, the clock of one replica
    routing.py   RoundRobin, LeastOutstanding
    results.py   what a run returns
    simulate.py  simulate(), the entry
"""
