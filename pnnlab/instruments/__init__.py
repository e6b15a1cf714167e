"""Real instruments. The only room that imports pyvisa, and only once it is needed."""
