"""The command line. Commands are registered in `main`; heavy imports wait until a command runs.

main            the list of commands
draw            generate, inpaint, extrapolate, vary, edit
answer          ask, describe, chat
drawing_arguments  options of the commands that draw
image_paths     names of the image files of prompts
demo            demo
evaluate        evaluate, report
convert         convert, average
train           pretrain, distill
common_options  options that several commands share, and those that `generation.options` declares
sidecar         all settings of an image as a JSON file
output_files    checks of files before they are written
prompt_files    files of prompts, and file names after prompts
terminal        progress bars, streamed answers, silence of the libraries below
exit_status     errors to one line and exit status 2
"""
