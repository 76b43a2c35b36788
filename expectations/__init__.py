"""What must hold before an extract may leave, and the gate that asks.

Imports ``warehouse`` and nothing else of the project.

A *candidate* is the rows one recipient would get for one month, with what they are compared to, set aside in
the object store. The gate judges exactly those bytes. Great Expectations takes seconds to import: it is
imported inside the check only.
"""
