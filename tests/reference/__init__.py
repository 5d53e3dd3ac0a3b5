"""The slow simulator: plain Python, token by token, written from the description of the engines alone.

It shares no code with the packages it judges, and the compiled kernel must equal it to the last bit. VLLM.md and
VIDUR.md are the developers' notes on how vLLM V1 and Vidur behave, found by reading and running both; they are not
distributed, and what matters of them stands in docs/policies.md. One noun per file:

    config.py        ReferenceConfig, everything a run needs besides requests and tables
    config_checks.py what it must not ask for
    tables.py        ReferenceTables, the seconds of one iteration
    requests.py      Request, one request and its state
    waiting.py       WaitingQueue, the requests that wait, in queue order
    blocks.py        BlockPool, the KV blocks of a replica and their free queue
    prefix_cache.py  PrefixCache, a BlockPool whose blocks keep their content; named_blocks(), what that is called
    request_blocks.py  RequestBlocks, which blocks a request of vllm_v1 holds, finds and leaves in the cache
    batch.py         Batch and BatchMember, what one call of schedule() chose
    vllm_v1.py       VllmV1, the batch policy of VLLM.md
    vidur_policy.py  VidurPolicy, what the batch policies of VIDUR.md share
    evicting_policy.py, vllm_v0.py, sarathi.py, orca.py, faster_transformer.py, lightllm.py
    trtllm.py        TrtLlm, which shares with them what a micro-batch is
    sglang.py        SgLang; sglang_state.py: its micro-batch slots and budget
    radix_cache.py   RadixCache, the tree of its pages; request_pages.py: who holds which
    engine.py        Engine, what one replica does whatever its clock
    synchronous.py   SynchronousEngine, its clock with pipeline stages
    asynchronous.py  AsynchronousEngine, its two clocks when batches are scheduled ahead
    overheads.py     CPU time and graph padding, in the tables or, scheduled ahead, on the clocks
    clients.py       who sends the requests, and when
    routing.py       the routers
    results.py       what a run returns
    series.py        what an engine did over time
    simulate.py      simulate(), the entry, and the order of events

Under parity="vidur" the policies of VIDUR.md keep Vidur's oddities, and the rest is Vidur's own:

    vidur.py         VidurLoop and simulate_vidur(), the entry
    vidur_tables.py  VidurTables, the time of a stage from per-operator tables
    vidur_routing.py the routers
    vidur_results.py what a run returns

Oddities of VIDUR.md 4.14 that concern simulation; parity keeps them, without it:

    1       the order of events at one time is stated, not an accident of creation (simulate.py)
    4       least_outstanding counts waiting and running (routing.py)
    5       a finished member frees its blocks at once (faster_transformer.py)
    6       the restart of an unfinished prefill keeps its P (vidur_policy.py)
    11      a count beyond a table is refused in one sentence (tables.py)
    13, 14  caps are tested with >=, bind prefills under way, too, and are per replica for every policy; fewer seats
            than stages are refused (vidur_policy.py, sarathi.py, config.py)
    15      what could never run is refused before the run (check() of each policy)
    21, 23  the tables decide; time is per stage (tables.py, synchronous.py)
"""
