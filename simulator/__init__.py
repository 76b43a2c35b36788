"""CPOs that do not exist, with the truth known. Imports nothing else of the project.

``world`` says who and what there is, ``faults`` what goes wrong in every month, ``timeline`` the status of an
EVSE to the second, ``feeds`` what a CPO tells of it, ``truth`` what a right warehouse makes of that; ``history``
hands it over as files. ``reference`` writes files about its places and who paid for them.

What is served now: ``sources`` and ``quick`` say what there is at a time and what changed between two,
``switchboard`` what can go wrong by name, ``serving`` and ``spoiling`` do it to answers and records, ``telling`` to
what a feed says by itself. Each protocol is a thin layer over these: ``ocpi`` (with ``ocpi_objects`` and
``credentials``), ``rest``, ``live`` (WebSocket, SSE), ``pushing``, ``dropping`` (files); ``control`` tells the
truth and switches, ``server`` puts all together.
"""
