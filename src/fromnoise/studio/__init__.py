"""The studio: a local server that shows runs on one page, trains, and draws samples.

    guard       who may talk to it: one middleware before everything else
    address     where it listens, and the names it answers to
    library     the runs on show, by identifier
    jobs        what a training is asked to be, checked before it begins
    trainings   one training at a time, in a process of its own (`worker`)
    walks       samples drawn step by step
    form        the configuration's schema, for the page's form
    routes      what is asked and answered; `server` serves it

Nothing here is imported before it is used: the worker needs no server, and `fromnoise --help` neither.
"""

__all__: list[str] = []
