"""The studio: a local server that shows runs on one page, trains, and draws samples.

    guard       access control: one middleware before everything else
    address     the address at which it listens, and its host names
    library     the runs on show, by identifier
    jobs        the description of a training, checked before the training begins
    trainings   one training at a time, in a process of its own (`worker`)
    walks       samples drawn step by step
    form        the configuration's schema, for the page's form
    routes      the requests and their answers; `server` serves them

Nothing here is imported before it is used: neither the worker nor `fromnoise --help` needs a server.
"""

__all__: list[str] = []
