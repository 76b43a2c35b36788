"""OCPI Locations.

``client`` and ``paging`` speak the protocol, ``versions`` says in what its versions differ, ``models`` what an object may look like, ``translate`` makes assets
and statuses of it, ``pull`` is the polled feed made of these. Imports ``ingestion.model``, ``.config``, ``.http``, ``.places`` and ``.times`` only.
"""
