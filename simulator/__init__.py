"""CPOs that do not exist, with the truth known. Imports nothing else of the project.

``world`` says who and what there is, ``faults`` what goes wrong in every month, ``timeline`` the status of an
EVSE to the second, ``feeds`` what a CPO tells of it, ``truth`` what a right warehouse makes of that;
``history`` and ``server`` do the telling.
"""
