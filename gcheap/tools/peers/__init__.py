"""Other systems that `gcheap bench peers` measures: finding, building, running, reading them."""
