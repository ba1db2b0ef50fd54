"""Plug-ins for evaluation frameworks. Each module imports its framework, so nothing else imports it.

lmms_eval_entry   the entry point by which lmms-eval finds the model
lmms_eval_model   the model of lmms-eval
vlmevalkit_model  the model of VLMEvalKit
vlmevalkit_run    VLMEvalKit's command with the model registered
"""
