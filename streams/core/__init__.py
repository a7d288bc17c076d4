"""The pure core: no clock, no I/O, no logging; it imports only the standard library and `msgspec.Struct`."""
