"""The model that MLServer is told to serve."""

import base64

import numpy as np
import session_call
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):
    """One SavedModel, one signature; MLServer puts rows together."""

    async def load(self) -> bool:
        """Load the model."""
        parameters = self.settings.parameters
        self._call, self._dtype, *_ = session_call.load(parameters.uri, parameters.extra["signature"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run it on what MLServer has put together."""
        (asked,) = payload.inputs
        if self._dtype.hasobject:
            rows = np.empty(len(asked.data), object)
            # HTTP carries base64, gRPC the bytes themselves.
            rows[:] = [base64.b64decode(item) if isinstance(item, str) else item for item in asked.data]
        else:
            rows = NumpyCodec.decode_input(asked)
        outputs = [NumpyCodec.encode_output(name, array) for name, array in self._call(rows).items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)
