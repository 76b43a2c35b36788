"""OCPI Locations.

``client`` and ``paging`` speak the protocol, ``models`` says what an object may look like, ``translate``
makes assets and statuses of it, ``pull`` is the polled feed made of these. Imports ``ingestion.model``,
``.config`` and ``.http`` only.
"""
