"""Files of others, in and out. Each way in which a file can be wrong ends in one `InputError` that names it.

* `files`: what the readers and writers share: existing files, checked arrays, .npz, atomic writes.
* `images`: pictures in files; `pixels`: pictures in memory.
* `landmarks`: landmark files of photos and meshes. `landmark_tables`, `landmark_trees`: what is in them;
  `landmark_names`: what tools call the points.
* `matfile`: numeric arrays of MATLAB files.
* `pickles`: pickles and object arrays, without running what is in them.
* `results`: a folder that results are written to.
* `video`: videos and webcams in, by way of `frames` (from stored frames to shown ones) and `hdr`; `video_writer`:
  videos out.
"""
