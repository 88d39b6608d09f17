"""How a worker's large blocks of memory are kept between batches: in pages that are moved where they are needed."""
