"""Settings of the JupyterLab that ``make lab`` starts."""

from pathlib import Path

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class Undelayed(ZMQChannelsWebsocketConnection):
    """Sends each message at once.

    By default a small message waits, for up to 40 ms, until the one before it is confirmed (Nagle's algorithm and
    delayed acknowledgements): a slider's picture then comes twice as late.
    """

    def connect(self):
        self.websocket_handler.set_nodelay(True)
        return super().connect()


c = get_config()  # noqa: F821
c.ServerApp.kernel_websocket_connection_class = Undelayed
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"  # nothing here asks the network
c.LabApp.news_url = None
c.LabApp.app_settings_dir = str(Path(__file__).parent / "lab_settings")  # does not ask about news either
