"""The ground everything stands on: time, the door into the event loop, seeded generators."""
