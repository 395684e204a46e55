import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Paths;

/** java Driver CASES RESULTS: every case through the Java client; helpers_clients.py tells the format. */
public final class Driver {
  private static final String[] RULES = {"squash", "crop", "pad"};
  private static final String[] FILTERS = {"nearest", "bilinear", "bicubic", "area", "lanczos"};

  public static void main(String[] arguments) throws Exception {
    ByteBuffer content = ByteBuffer.wrap(Files.readAllBytes(Paths.get(arguments[0]))).order(ByteOrder.LITTLE_ENDIAN);
    ByteArrayOutputStream results = new ByteArrayOutputStream();
    for (int number = 0; content.hasRemaining(); number++) {
      int[] head = new int[14];
      for (int i = 0; i < head.length; i++) head[i] = content.getInt();
      Preprocess preprocess =
          new Preprocess(
              head[0], head[1], RULES[head[2]], FILTERS[head[3]], head[4] == 1, head[5] == 1 ? "scaled" : "full",
              head[6] + ".0.0");
      Preprocess.Picture picture = read(content, head[7], head[8], head[9], number % 2 == 1);
      picture.oriented(head[10]).decodedAt(head[11], head[12], head[13]);
      int scale = preprocess.jpegScale(head[12], head[13], head[10]);
      results.write(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(scale).array());
      results.write(preprocess.apply(picture));
    }
    Files.write(Paths.get(arguments[1]), results.toByteArray());
  }

  /** Every other RGBA case as the int array that Android's Bitmap gives. */
  private static Preprocess.Picture read(ByteBuffer content, int width, int height, int format, boolean ints) {
    if (format == 3) {
      short[] deep = new short[width * height];
      for (int i = 0; i < deep.length; i++) deep[i] = content.getShort();
      return Preprocess.Picture.ofGrey16(deep, width, height);
    }
    byte[] bytes = new byte[width * height * (format == 0 ? 1 : format == 1 ? 3 : 4)];
    content.get(bytes);
    if (format != 2 || !ints) return Preprocess.Picture.of(bytes, width, height);
    int[] argb = new int[width * height];
    for (int i = 0; i < argb.length; i++) {
      int red = bytes[4 * i] & 0xFF;
      int green = bytes[4 * i + 1] & 0xFF;
      int blue = bytes[4 * i + 2] & 0xFF;
      argb[i] = (bytes[4 * i + 3] & 0xFF) << 24 | red << 16 | green << 8 | blue;
    }
    return Preprocess.Picture.ofArgb(argb, width, height);
  }
}
