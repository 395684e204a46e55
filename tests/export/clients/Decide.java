import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.List;

/** java Decide FOLDER WHAT [WIDTH HEIGHT]: numbers.bin (float32) of a bundle's folder through Bundle. */
public final class Decide {
  public static void main(String[] arguments) throws Exception {
    String folder = arguments[0];
    byte[] text = Files.readAllBytes(Paths.get(folder, "bundle.json"));
    ByteBuffer content = ByteBuffer.wrap(Files.readAllBytes(Paths.get(folder, "numbers.bin")));
    float[] numbers = new float[content.remaining() / 4];
    content.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(numbers);
    try {
      tell(Bundle.read(new String(text, StandardCharsets.UTF_8)), numbers, arguments);
    } catch (IllegalArgumentException error) {
      System.out.println("refused: " + error.getMessage());
    }
  }

  private static void tell(Bundle bundle, float[] numbers, String[] arguments) throws Exception {
    float[] query = Arrays.copyOfRange(numbers, 0, numbers.length / 2);
    float[] other = Arrays.copyOfRange(numbers, numbers.length / 2, numbers.length);
    List<Bundle.Enrolled> enrolled =
        Arrays.asList(
            new Bundle.Enrolled("b", other), new Bundle.Enrolled("a", other), new Bundle.Enrolled("c", query));
    switch (arguments[1]) {
      case "classify":
        for (Bundle.Answer one : bundle.classify(numbers, 2)) System.out.println(one.index + " " + (double) one.value);
        break;
      case "input":
        byte[] levels = new byte[256];
        for (int i = 0; i < 256; i++) levels[i] = (byte) i;
        for (Object one : Bundle.list(bundle.json.get("artefacts"))) {
          ByteBuffer input = bundle.input((String) Bundle.object(one).get("file"), levels);
          Object kind = Bundle.object(Bundle.list(Bundle.object(one).get("inputs")).get(0)).get("dtype");
          while (input.hasRemaining()) {
            double told = "float32".equals(kind) ? input.getFloat() : input.get();
            System.out.println("uint8".equals(kind) ? told + (told < 0 ? 256 : 0) : told);
          }
        }
        break;
      case "gallery":
        Gallery gallery = Gallery.read(Files.readAllBytes(Paths.get(arguments[0], "gallery.bin")), bundle);
        String name = Bundle.match(gallery.rule, numbers, gallery.enrolled, null);
        System.out.println(name == null ? "unknown" : name);
        for (Bundle.Answer one : Bundle.nearest(gallery.rule, numbers, gallery.enrolled, 3)) {
          System.out.println(one.label + " " + (double) one.value);
        }
        break;
      case "picture":
        int[] picture = new int[3];
        for (int i = 0; i < 3; i++) picture[i] = Integer.parseInt(arguments[2 + i]);
        bundle.preprocess().apply(Preprocess.Picture.of(new byte[picture[2]], picture[0], picture[1]));
        System.out.println("fine");
        break;
      case "mask":
        int[] mask = bundle.mask(numbers, Integer.parseInt(arguments[2]), Integer.parseInt(arguments[3]));
        for (int one : mask) System.out.println(one);
        break;
      case "alike":
        System.out.println((double) Bundle.alike(bundle.comparison(), query, other));
        break;
      default:
        System.out.println(String.valueOf(Bundle.match(bundle.comparison(), other, enrolled.subList(0, 2), null)));
        Double least = Double.valueOf(arguments[2]);
        System.out.println(String.valueOf(Bundle.match(bundle.comparison(), query, enrolled, least)));
    }
  }
}
