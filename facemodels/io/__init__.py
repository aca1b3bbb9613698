"""Files of others, in and out. Each way in which a file can be wrong ends in one `InputError` that names it.

* `boxes`: files with the boxes of faces.
* `files`: what the readers and writers share: existing files, text, checked arrays, .npz, atomic writes.
* `images`: pictures in files, with `tiff` for those of floats and 32 bits; `pixels`: pictures in memory.
* `landmarks`: landmark files of photos and meshes. `landmark_tables`, `landmark_trees`: what is in them;
  `landmark_names`: what tools call the points.
* `matfile`: numeric arrays of MATLAB files.
* `pickles`: pickles and object arrays, without running what is in them.
* `results`: a folder that results are written to.
* `video`: videos and webcams in, by way of `opacity` (transparent VP8 and VP9), `frames` (from stored frames to shown
  ones) and `hdr`; `video_writer`: videos out.
"""
