"""What a connector's tests need: an emitter that keeps what it is told, and checks over sample payloads (CON-6).

Nothing is imported here: pytest loads `producers.samples.plugin` in every project that has Sealtrail installed.
"""
