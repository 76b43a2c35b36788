"""Reference files from the object store into schema ``reference``. Imports ``warehouse`` alone.

``kinds`` says which files there are and what a row of each must be, ``reading`` turns a file into rows or into the list of all that is wrong with it,
``loading`` stores them, ``locating`` finds the area that a coordinate lies in.
"""
