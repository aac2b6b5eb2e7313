"""The one rig of all tests that run the whole connector: over the sandbox, in one process, without sockets.

``rig`` a host: the connector as its composition root builds it, with clock, journal and session lent · ``worlds`` small
random organisations · ``people`` what people do in them · ``interleave`` two hosts, call by call · ``oracles`` judge what was
seen, without the connector's arithmetic · ``game`` plays one seed · ``campaign`` plays thousands · ``wrong`` connectors that
must be found out.
"""
