import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.pytorch.executorch.DType;
import org.pytorch.executorch.EValue;
import org.pytorch.executorch.Module;
import org.pytorch.executorch.Tensor;

/**
 * Runs the methods of one ExecuTorch program for whoever started it, through Android's own classes.
 *
 * <p>First it says what methods there are: their number (int), then of each its name and its backends,
 * with commas between (UTF). From then on it reads a method's name (UTF) and its tensors, runs it, and answers
 * with an error (UTF, empty if there is none) and, without one, the outputs. Tensors: their number (int); of
 * each the code of its type, its rank, its sizes (ints) and its bytes. Numbers are big-endian, but for a
 * tensor's own bytes, which are little-endian.
 */
public class ProgramServer {
    private static final int UINT8 = 0;
    private static final int FLOAT = 6;

    public static void main(String[] paths) throws IOException {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        Module program = Module.load(paths[0]);
        announce(program, out);
        while (true) {
            String method;
            try {
                method = in.readUTF();
            } catch (EOFException end) {
                return;
            }
            answer(program, method, readTensors(in), out);
        }
    }

    private static void announce(Module program, DataOutputStream out) throws IOException {
        String[] methods = program.getMethods();
        out.writeInt(methods.length);
        for (String method : methods) {
            out.writeUTF(method);
            out.writeUTF(String.join(",", program.getMethodMetadata(method).getBackends()));
        }
        out.flush();
    }

    private static void answer(Module program, String method, EValue[] inputs, DataOutputStream out)
            throws IOException {
        try {
            EValue[] outputs = program.execute(method, inputs);
            out.writeUTF("");
            out.writeInt(outputs.length);
            for (EValue output : outputs) {
                writeTensor(output.toTensor(), out);
            }
        } catch (RuntimeException failure) {
            out.writeUTF(failure.toString());
        }
        out.flush();
    }

    private static EValue[] readTensors(DataInputStream in) throws IOException {
        EValue[] tensors = new EValue[in.readInt()];
        for (int i = 0; i < tensors.length; i++) {
            boolean isFloat = in.readInt() == FLOAT;
            long[] shape = new long[in.readInt()];
            int bytes = isFloat ? 4 : 1;
            for (int axis = 0; axis < shape.length; axis++) {
                shape[axis] = in.readInt();
                bytes *= (int) shape[axis];
            }
            ByteBuffer data = Tensor.allocateByteBuffer(bytes);
            byte[] read = new byte[bytes];
            in.readFully(read);
            data.put(read).rewind();
            tensors[i] = EValue.from(
                    isFloat ? Tensor.fromBlob(data.asFloatBuffer(), shape) : Tensor.fromBlobUnsigned(data, shape));
        }
        return tensors;
    }

    private static void writeTensor(Tensor tensor, DataOutputStream out) throws IOException {
        boolean isFloat = tensor.dtype() == DType.FLOAT;
        out.writeInt(isFloat ? FLOAT : UINT8);
        out.writeInt(tensor.shape().length);
        for (long size : tensor.shape()) {
            out.writeInt((int) size);
        }
        if (isFloat) {
            float[] values = tensor.getDataAsFloatArray();
            ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
            bytes.asFloatBuffer().put(values);
            out.write(bytes.array());
        } else {
            out.write(tensor.getDataAsUnsignedByteArray());
        }
    }
}
