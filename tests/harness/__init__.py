"""The fault harness: the real connector against the sandbox, in one process, with a fault or an edit at any HTTP call.

``faults`` what can go wrong · ``stories`` the worlds and what people do in them · ``bench`` runs one scenario ·
``checkpoint`` resets a world in a fraction of the time that building one takes · ``oracle`` judges what happened ·
``scenarios`` enumerates · ``wrong`` holds the connectors that must be found out.
"""
