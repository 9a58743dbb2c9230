"""concurry: write a class, run it on threads, processes, an event loop or a Ray cluster by changing one word."""
